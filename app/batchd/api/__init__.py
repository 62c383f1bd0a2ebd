"""HTTP: the only package that imports aiohttp.web."""
