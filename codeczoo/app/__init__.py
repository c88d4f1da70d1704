"""The app to try codecs with: `comparison` makes what it shows, `interface` is the page, by Gradio (extra `[app]`)."""
