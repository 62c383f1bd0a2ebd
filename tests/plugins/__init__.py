"""The plugins with the services that they call."""
