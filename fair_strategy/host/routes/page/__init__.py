"""The dashboard's page: HTML, CSS and JavaScript as they are, no build step."""
