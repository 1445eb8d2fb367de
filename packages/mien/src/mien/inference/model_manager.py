"""Loading and unloading models while the server runs."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import structlog

from mien.engine.malloc import return_free_memory
from mien.errors import Conflict, MienError, ModelInUse, NotFound, RequestError
from mien.inference.embedding import EmbeddingModels
from mien.inference.loading import ModelLoader, load_clip, load_image_model, load_text_model
from mien.inference.slots import Slot
from mien.zoo.manifest import Manifest
from mien.zoo.on_demand import OnDemand
from mien.zoo.selection import IMAGE_HALF, TEXT_HALF, halves_of

log = structlog.get_logger()

Purpose: TypeAlias = Literal[
    "face_detection", "face_recognition", "age_gender", "mask", "pose", "landmarks_68", "image", "text", "clip"
]
State: TypeAlias = Literal["loaded", "absent", "unloaded"]
"""`absent`: its files are not here; a request that needs it acquires it. `unloaded`: by an operator, until loaded."""
_PURPOSES: Mapping[str, Purpose] = {
    "clip_image": "clip",
    "clip_text": "clip",
    "imagenet": "image",
    "minilm": "text",
    "arcface": "face_recognition",
    "dlib_age": "age_gender",
    "dlib_gender": "age_gender",
    "insightface_genderage": "age_gender",
    "keras_mask": "mask",
    "hopenet": "pose",
    "landmarks_68": "landmarks_68",
}
"""By family; all others are detectors."""
_SETTINGS: Mapping[Purpose, str] = {
    "face_detection": "MIEN_DETECTOR",
    "face_recognition": "MIEN_RECOGNISER",
    "age_gender": "MIEN_AGE_MODEL and MIEN_GENDER_MODEL",
    "mask": "MIEN_MASK_MODEL",
    "pose": "MIEN_POSE_MODEL",
    "landmarks_68": "MIEN_LANDMARK_MODEL",
}


@dataclass(frozen=True, slots=True)
class ModelState:
    """A model that this server uses, or several that are loaded together."""

    name: str
    manifests: tuple[str, ...]
    purpose: Purpose
    state: State
    required: bool
    """Whether it stays as long as the server runs."""


@dataclass(frozen=True, slots=True)
class Change:
    """What became of a model, and whether it was otherwise before."""

    model: ModelState
    changed: bool


@dataclass(frozen=True, slots=True)
class FixedModels:
    """The models that settings choose and that nothing replaces."""

    required: Mapping[str, Purpose]
    """By the names of their manifests: those without which there is no face pipeline."""
    groups: Sequence[tuple[Purpose, OnDemand[Any]]]
    """Those that faces are described with, and that requests may choose: loaded and unloaded, each group as a whole."""


class ModelManager:
    """Loads and unloads models on request, one change after the other. Used on the event loop.

    Requests that are running finish with the models that they began with. A load that fails changes nothing.
    """

    def __init__(self, loader: ModelLoader, models: EmbeddingModels, fixed: FixedModels) -> None:
        self._loader = loader
        self._zoo = loader.zoo
        self._fixed = fixed
        self._slots: Mapping[Purpose, tuple[Slot[Any], Callable[[str, ModelLoader], OnDemand[Any]]]] = {
            "image": (models.image, load_image_model),
            "text": (models.text, load_text_model),
            "clip": (models.clip, load_clip),
        }
        self._one_at_a_time = asyncio.Lock()
        self._running: set[asyncio.Task[Change | MienError]] = set()
        self._listeners: list[Callable[[], Awaitable[None]]] = []

    def listen(self, changed: Callable[[], Awaitable[None]]) -> None:
        """Call `changed` after each change, before it is reported to who asked for it."""
        self._listeners.append(changed)

    def states(self) -> list[ModelState]:
        """Every model of this server, the required ones first."""
        required = [ModelState(name, (name,), kind, "loaded", True) for name, kind in self._fixed.required.items()]
        return [*required, *(_state(kind, model) for kind, model in self._optional())]

    async def load(self, name: str) -> Change:
        """Load a model, or those of a set that belong together, from the files on this machine.

        One that serves the same purpose is replaced once this one is ready. Raises ModelUnknown, ModelUnavailable for
        files that are not here, other ModelErrors, Conflict for a model that only a setting can choose, RequestError
        for a set of several.
        """
        return await self._alone(lambda: self._load(name))

    async def unload(self, name: str) -> Change:
        """Unload a model; its memory is free when the last request that uses it has ended.

        Raises ModelUnknown, ModelInUse for the face models, NotFound for a model that this server does not use.
        """
        return await self._alone(lambda: self._unload(name))

    async def _alone(self, change: Callable[[], Awaitable[Change]]) -> Change:
        async def run() -> Change | MienError:
            async with self._one_at_a_time:
                try:
                    return await change()
                except MienError as error:
                    return error.without_frames()  # which hold what was loaded in vain
                finally:
                    await asyncio.to_thread(return_free_memory)

        # In a task of its own: a client that disconnects must not free the lock while a thread is still loading.
        task = asyncio.create_task(run())
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        outcome = await asyncio.shield(task)
        if isinstance(outcome, MienError):
            raise outcome
        return outcome

    async def _load(self, name: str) -> Change:
        purpose, wanted = self._resolve(name)
        if wanted in self._fixed.required:
            return Change(next(state for state in self.states() if state.name == wanted), changed=False)
        started = time.perf_counter()
        group = next((group for kind, group in self._fixed.groups if kind == purpose and wanted in group.names), None)
        if purpose in self._slots:
            model, changed = await self._fill(purpose, wanted)
        elif group is not None:
            model, changed = group, await asyncio.to_thread(group.load)
        else:
            raise Conflict(f"{wanted}: what {purpose.replace('_', ' ')} uses is chosen at the start, by "
                           f"{_SETTINGS[purpose]}; set it and restart the server")  # fmt: skip
        if changed:
            log.info("model loaded", model=model.name, seconds=round(time.perf_counter() - started, 2))
            await self._tell()
        return Change(_state(purpose, model), changed)

    async def _fill(self, purpose: Purpose, wanted: str) -> tuple[OnDemand[Any], bool]:
        slot, make = self._slots[purpose]
        current = slot.current
        if current is not None and current.name == wanted:
            return current, await asyncio.to_thread(current.load)
        model = await asyncio.to_thread(make, wanted, self._loader)
        await asyncio.to_thread(model.load)  # says which file is missing, if one is
        slot.current = model
        if current is not None:
            current.unload()
        return model, True

    async def _unload(self, name: str) -> Change:
        purpose, wanted = self._resolve(name)
        if wanted in self._fixed.required:
            raise ModelInUse(
                f"{wanted} is what /extract works with and stays as long as the server runs; "
                f"to use another, set {_SETTINGS[purpose]} and restart the server"
            )
        optional = self._optional()
        model = next((model for _, model in optional if wanted == model.name or wanted in model.names), None)
        if model is None:
            known = ", ".join(model.name for _, model in optional if not model.is_unloaded) or "none"
            raise NotFound(f"this server does not use {wanted}; models that can be unloaded: {known}")
        changed = model.unload()
        if changed:
            log.info("model unloaded", model=model.name)
            await self._tell()
        return Change(_state(purpose, model), changed)

    async def _tell(self) -> None:
        for changed in self._listeners:
            await changed()

    def _optional(self) -> list[tuple[Purpose, OnDemand[Any]]]:
        slots = [(purpose, slot.current) for purpose, (slot, _) in self._slots.items()]
        placed = [*self._fixed.groups, *slots]
        return [(purpose, model) for purpose, model in placed if model is not None and model.names]

    def _resolve(self, name: str) -> tuple[Purpose, str]:
        """What a model, a set or a part of a model is loaded as."""
        if set(halves_of(name)) <= self._zoo.manifests.keys():
            return "clip", name
        found = {_unit(manifest) for manifest in self._zoo.members(name) if manifest.family != "data"}
        if len(found) == 1:
            return found.pop()
        if not found:
            raise RequestError(f"{name} is loaded together with the model that needs it")
        raise RequestError(
            f"{name} is a set of several models: {', '.join(sorted(unit for _, unit in found))}; name one"
        )


def _unit(manifest: Manifest) -> tuple[Purpose, str]:
    purpose: Purpose = _PURPOSES.get(manifest.family, "face_detection")
    name = manifest.name
    return purpose, name.removesuffix(IMAGE_HALF).removesuffix(TEXT_HALF) if purpose == "clip" else name


def _state(purpose: Purpose, model: OnDemand[Any]) -> ModelState:
    state: State = "unloaded" if model.is_unloaded else "loaded" if model.is_here else "absent"
    return ModelState(model.name, model.names, purpose, state, required=False)
