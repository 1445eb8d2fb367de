"""The OpenAPI document, made from the types that handlers parse requests with and render responses with."""
