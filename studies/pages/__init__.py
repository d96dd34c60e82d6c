"""What the studies show: tables in Markdown and a picture, a module a study."""
