"""What is sent, in order: to a server that starts empty, and to one that starts on an old version's data.

The first server has no API keys until a command makes them; what follows that is sent with and without them.
"""

from ..steps import Step
from . import access, apps, commands, faces, files, infer, old_data, operations, tasks

NEW = {
    "max_images": "8",
    "max_body_bytes": "3000000",
    "max_image_bytes": "1000000",
    "max_pixels": "20000000",
    "fetch_private": "true",
    "fetch_tries": "1",
    "fetch_headers": '{"*": {"X-Secret": "s3cr3t-value"}}',
    "threads": "2",
    "offline": "true",
    "cors_origins": "https://a.example",
    "file_max_bytes": "200000",
    "app_max_bytes": "60000",
    "app_max_files": "12",
    "app_secrets": '{"TOKEN": "s3cr3t-token"}',
    "app_workers": "3",
    "app_memory": "536870912",
    "workers_memory": "17179869184",  # set, since a message contains it and its default depends on the machine
    "task_queue": "10",
    "task_scheduled": "10",
    "task_grace": "0.5",
    "task_input_bytes": "20000",
    "task_output_bytes": "50000",
}
"""Settings of the server that starts empty: limits so small that they can be passed."""

OLD = {
    "age_model": "none",
    "gender_model": "none",
    "mask_model": "none",
    "image_model": "none",
    "text_model": "none",
    "threads": "2",
    "offline": "true",
    "status_table": "A",
    "status_words": "ok",
    "strict_metadata": "true",
    "request_timeout": "4",
    "task_keep_days": "none",
    "app_secrets": '{"TOKEN": "s3cr3t-token"}',
    "app_memory": "536870912",
}
"""Settings of the server on old data: few models, and the other choice wherever there are two."""


def on_new() -> list[Step]:
    """Steps for the server that starts empty."""
    return [
        *operations.steps(),
        *faces.steps(),
        *infer.steps(),
        *files.steps(),
        *apps.steps(),
        *tasks.steps(),
        *commands.of_the_server(),
        *tasks.last_steps(),
        *access.steps(),
    ]


def on_old() -> list[Step]:
    """Steps for the server on old data."""
    return old_data.steps()


def without_server() -> list[Step]:
    """Commands that need no server, in a folder of their own."""
    return commands.alone()
