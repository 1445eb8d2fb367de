"""The settings as `/v1/config` shows them: what clients may want to know, nothing secret, no paths of this machine."""

from typing import Any

from mien.settings import Settings


def configuration(settings: Settings) -> dict[str, Any]:
    """Under the original's keys, durations in nanoseconds, limits beside them."""
    return {
        "server": {
            "rest": {
                "enabled": True,
                "host": settings.host,
                "port": settings.port or 8080,
                "cors": bool(settings.cors_origins),
                "timeout": _nanoseconds(settings.request_timeout),
            }
        },
        "discovery": {
            "enabled": settings.mdns_browse,
            "service_type": "_lumen._tcp",
            "domain": "local",
            "scan_interval": _nanoseconds(settings.mdns_scan_seconds),
            "node_timeout": _nanoseconds(settings.node_forget_seconds),
            "max_nodes": settings.node_limit,
        },
        "load_balancer": {
            "strategy": "least_outstanding_requests",
            "health_check": settings.node_health_seconds > 0,
            "check_interval": _nanoseconds(settings.node_health_seconds),
        },
        "chunk": {
            "enable_auto": settings.chunk_auto,
            "threshold": settings.chunk_threshold,
            "max_chunk_bytes": settings.chunk_max_bytes,
        },
        "limits": {
            "max_body_bytes": settings.max_body_bytes,
            "max_image_bytes": settings.max_image_bytes,
            "max_items": settings.max_images,
            "max_pixels": settings.max_pixels,
            "queue_items": settings.queue_images,
            "queue_bytes": settings.queue_bytes,
        },
        "models": {"providers": list(settings.providers), "offline": settings.offline},
        "logging": {"level": settings.log_level, "format": settings.log_format},
    }


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)
