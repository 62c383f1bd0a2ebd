"""The operations of the API without HTTP: the form of a call and the service it goes to."""
