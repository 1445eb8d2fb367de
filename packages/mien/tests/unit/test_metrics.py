"""Metrics of one server, in Prometheus' text format."""

from prometheus_client.parser import text_string_to_metric_families

from mien.metrics import Metrics


def test_two_servers_in_one_process_count_apart() -> None:
    one, two = Metrics(), Metrics()
    one.faces.inc(3)
    assert "mien_faces_total 3.0" in one.render().decode()
    assert "mien_faces_total 0.0" in two.render().decode()


def test_model_runs_are_counted_by_model() -> None:
    metrics = Metrics()
    metrics.observe_run("yunet", 4, 0.02, 0.5)
    metrics.observe_run("yunet", 1, 0.02, 0.5)
    samples = {
        (sample.name, sample.labels.get("model")): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
    }
    assert samples["mien_batch_size_count", "yunet"] == 2
    assert samples["mien_batch_size_sum", "yunet"] == 5
    assert samples["mien_model_run_seconds_sum", "yunet"] == 0.04
    assert samples["mien_model_wait_seconds_sum", "yunet"] == 1.0
