"""codeczoo's app as a Space of the Hugging Face hub (docs/app.md)."""

from codeczoo.app.interface import launch

launch()
