"""What the permission port says of the API's operations holds against their table."""

from batchd.domain.permission import OWNED, READS
from batchd.operations.table import ENDPOINTS


def test_reads_are_what_is_asked_for_by_get() -> None:
    assert {endpoint.name for endpoint in ENDPOINTS if endpoint.method == "GET"} == READS


def test_owned_is_what_is_about_a_batch_or_an_upload() -> None:
    def names_one(endpoint: object) -> bool:
        forms = (getattr(endpoint, name) for name in ("path_form", "body_form"))
        fields = {field for form in forms if form is not None for field in form.__struct_fields__}
        return bool(fields & {"batch", "handler"})

    assert {e.name for e in ENDPOINTS if names_one(e)} | {"get_batches"} == OWNED
