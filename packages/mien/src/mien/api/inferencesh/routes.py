"""All routes of the third door."""

from fastapi import APIRouter

from mien.api.inferencesh.apps import router as apps
from mien.api.inferencesh.files import router as files
from mien.api.inferencesh.sessions import router as sessions
from mien.api.inferencesh.tasks import router as tasks

router = APIRouter()
for part in (tasks, files, apps, sessions):
    router.include_router(part)
