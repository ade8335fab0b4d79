"""What both worlds promise: tests written once, to be mixed with a C{TestCase} for each log."""
