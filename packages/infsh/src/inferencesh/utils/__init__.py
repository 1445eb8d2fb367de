"""The app SDK's functions, under the module names that existing programs import."""
