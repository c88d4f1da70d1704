"""The pages of the docs site that are made from the code: families, commands, the API, notebooks."""
