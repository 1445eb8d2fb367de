"""The clients, under the module name that existing programs import."""

from inferencesh._async import AsyncInference, AsyncTaskStream
from inferencesh._options import UploadFileOptions
from inferencesh._status import TaskStatus
from inferencesh._sync import Inference, TaskStream

__all__ = ["AsyncInference", "AsyncTaskStream", "Inference", "TaskStatus", "TaskStream", "UploadFileOptions"]
