"""The face pipeline, and the service that runs it for many images of many clients."""
