"""Variables of the original InsightFace-REST server: this server reads none of them, and says what to set instead."""

from collections.abc import Mapping

PAGE = "docs/migrating.md"
REPLACEMENTS = {
    "DET_NAME": "MIEN_DETECTOR",
    "REC_NAME": "MIEN_RECOGNISER",
    "GA_NAME": "MIEN_AGE_MODEL and MIEN_GENDER_MODEL",
    "GA_MODEL": "MIEN_AGE_MODEL and MIEN_GENDER_MODEL",
    "MASK_DETECTOR": "MIEN_MASK_MODEL",
    "INFERENCE_BACKEND": "MIEN_PROVIDERS",
    "REC_BATCH_SIZE": "MIEN_MAX_BATCH",
    "DET_BATCH_SIZE": "MIEN_MAX_BATCH",
    "ROOT_IMAGES_DIR": "MIEN_IMAGES_ROOT",
    "DEF_DET_THRESH": "MIEN_DEFAULT_THRESHOLD",
    "DEF_RETURN_FACE_DATA": "MIEN_DEFAULT_RETURN_FACE_DATA",
    "DEF_RETURN_LANDMARKS": "MIEN_DEFAULT_RETURN_LANDMARKS",
    "DEF_EXTRACT_EMBEDDING": "MIEN_DEFAULT_EXTRACT_EMBEDDING",
    "DEF_EXTRACT_GA": "MIEN_DEFAULT_EXTRACT_GA",
    "DEF_DETECT_MASKS": "MIEN_DEFAULT_DETECT_MASKS",
    "DEF_IMG_REQ_HEADERS": "MIEN_FETCH_HEADERS",
}
"""What takes the place of each variable."""
OBSOLETE = ("FORCE_FP16", "TRITON_URI", "USE_NVJPEG", "FACE_MODEL_CLASS", "DEF_SSLV3_HACK")
"""Variables that nothing takes the place of."""
COMMON = {
    "MAX_SIZE": "MIEN_DETECTION_SIZE",
    "PORT": "MIEN_PORT",
    "LOG_LEVEL": "MIEN_LOG_LEVEL",
    "MODELS_DIR": "MIEN_CACHE_DIR",
    "NUM_WORKERS": "MIEN_THREADS",
}
"""As REPLACEMENTS, for names that other programs have, too: they mean this one only beside names that are its own."""


def original_variables(environ: Mapping[str, str]) -> list[str]:
    """A sentence for each variable of the original server that is set, unless its replacement is set as well."""
    names = {name.upper() for name, value in environ.items() if value}
    own = [name for name in (*REPLACEMENTS, *OBSOLETE) if name in names]
    found = [*own, *(name for name in COMMON if own and name in names)]
    return [sentence for name in found if (sentence := _sentence(name, names)) is not None]


def _sentence(name: str, names: set[str]) -> str | None:
    instead = (REPLACEMENTS | COMMON).get(name)
    if instead is None:
        return f"{name} is a variable of InsightFace-REST that this server has no use for; see {PAGE}"
    if not names.isdisjoint(instead.split(" and ")):
        return None
    return f"{name} is a variable of InsightFace-REST, which this server does not read: set {instead}; see {PAGE}"
