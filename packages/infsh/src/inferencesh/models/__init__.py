"""The app SDK's models, under the module names that existing programs import."""
