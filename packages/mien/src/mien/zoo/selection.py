"""Which models a server with given settings needs, by the names of their manifests."""

from mien.settings import Models

IMAGE_LABELS = "imagenet_labels"
IMAGE_HALF, TEXT_HALF = "_image", "_text"


def required_models(models: Models) -> list[str]:
    """Names of the models without which a server with these settings does not start."""
    return list(dict.fromkeys([models.detector, models.recogniser]))


def optional_models(models: Models) -> list[str]:
    """Names of the models that are loaded at the start where they are here, and else when first wanted."""
    groups = (
        other_recognisers,
        age_gender_models,
        mask_models,
        pose_models,
        landmark_models,
        image_models,
        text_models,
        clip_models,
    )
    return list(dict.fromkeys(name for group in groups for name in group(models)))


def other_recognisers(models: Models) -> list[str]:
    """What requests may choose instead of the recogniser."""
    return [name for name in dict.fromkeys(models.recognisers) if name != models.recogniser]


def age_gender_models(models: Models) -> list[str]:
    """What `extract_ga` needs."""
    return [name for name in dict.fromkeys((models.age_model, models.gender_model)) if name]


def mask_models(models: Models) -> list[str]:
    """What `detect_masks` needs."""
    return [models.mask_model] if models.mask_model else []


def pose_models(models: Models) -> list[str]:
    """What `return_pose` needs."""
    return [models.pose_model] if models.pose_model else []


def landmark_models(models: Models) -> list[str]:
    """What `return_landmarks_68` needs."""
    return [models.landmark_model] if models.landmark_model else []


def image_models(models: Models) -> list[str]:
    """What images are embedded and classified with, the model first."""
    return [models.image_model, IMAGE_LABELS] if models.image_model else []


def text_models(models: Models) -> list[str]:
    """What texts are embedded with, the model first."""
    return [models.text_model, tokenizer_of(models.text_model)] if models.text_model else []


def tokenizer_of(text_model: str) -> str:
    """The name of the manifest of a text model's tokenizer."""
    return f"{text_model}_tokenizer"


def clip_models(models: Models) -> list[str]:
    """What images and texts are embedded with into one space: the halves, then the tokenizer."""
    return halves_of(models.clip_model) if models.clip_model else []


def halves_of(clip: str) -> list[str]:
    """The names of the manifests of a CLIP: of its image model, its text model and its tokenizer."""
    return [f"{clip}{IMAGE_HALF}", f"{clip}{TEXT_HALF}", tokenizer_of(clip)]
