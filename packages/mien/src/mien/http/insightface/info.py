"""`GET /info`: models and defaults, under the keys that clients of the original server read."""

from mien import __version__
from mien.config.fetch_headers import MASK, header_names
from mien.faces.pipeline import PIPELINE_VERSION
from mien.http.context import Runtime
from mien.http.insightface.schema import Info
from mien.vision.detectors.scales import TILE
from mien.vision.formats.still import most_pixels_of_any


def info(runtime: Runtime) -> Info:
    """The body of the response. Holds no secrets."""
    settings, facts = runtime.settings, runtime.models
    models, limits, api = settings.models, settings.limits, settings.api
    side = models.detection_size if isinstance(models.detection_size, int) else TILE
    answer: Info = {
        "version": __version__,
        "tensorrt_version": None,
        "log_level": settings.logging.log_level.upper(),
        "models": {
            "inference_backend": "onnx",
            "providers": list(settings.execution.providers),
            "det_name": models.detector,
            "rec_name": models.recogniser,
            "pipeline": PIPELINE_VERSION,
            "max_size": [side, side],
            "ga_name": ", ".join(name for name in (models.age_model, models.gender_model) if name) or None,
            "mask_detector": models.mask_model,
            "rec_batch_size": facts.recognition_batch,
            "det_batch_size": facts.detection_batch,
            "embedding_dim": facts.recogniser.embedding_dim,
            "same_threshold": facts.recogniser.same_threshold,
            "force_fp16": False,
            "triton_uri": None,
        },
        "defaults": {
            "return_face_data": api.default_return_face_data,
            "return_landmarks": api.default_return_landmarks,
            "extract_embedding": api.default_extract_embedding,
            "extract_ga": api.default_extract_ga,
            "detect_masks": api.default_detect_masks,
            "det_thresh": api.default_threshold,
            "img_req_headers": dict.fromkeys(header_names(settings.fetching.fetch_headers), MASK),
            "sslv3_hack": False,
        },
        "limits": {
            "max_images": limits.max_images,
            "max_body_bytes": limits.max_body_bytes,
            "max_image_bytes": limits.max_image_bytes,
            "max_pixels": most_pixels_of_any(limits.max_pixels),
        },
    }
    if len(facts.recognisers) > 1:
        answer["models"]["recognisers"] = [
            {"name": name, "embedding_dim": model.embedding_dim, "same_threshold": model.same_threshold}
            for name, model in facts.recognisers.items()
        ]
    return answer
