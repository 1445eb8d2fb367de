"""The app SDK's models, under the module names that programs import them from."""
