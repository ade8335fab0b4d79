"""The conformance page, made from the tags in code and tests."""
