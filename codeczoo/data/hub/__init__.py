"""Data sets of the Hugging Face hub, and folders in its layout. Everything but `repo_id` takes the extra `hf`."""
