"""All routes of the third door."""

from fastapi import APIRouter

from mien.http.inferencesh.apps import router as apps
from mien.http.inferencesh.files import router as files
from mien.http.inferencesh.sessions import router as sessions
from mien.http.inferencesh.tasks import router as tasks

router = APIRouter()
for part in (tasks, files, apps, sessions):
    router.include_router(part)
