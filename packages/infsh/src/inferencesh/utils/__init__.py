"""The app SDK's functions, under the module names that programs import them from."""
