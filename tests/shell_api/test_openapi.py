"""The OpenAPI document: complete, and served without a viewer."""

from tests.shell_api.conftest import Api


def test_operation_without_words_or_shape(still: Api) -> None:
    """Every operation has an id, a description, a typed answer and the one shape of fault."""
    answer = still.get(None, "/api/openapi.json")
    assert answer.status_code == 200
    document = answer.json()
    ids = []
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            where = f"{method} {path}"
            ids.append(operation["operationId"])
            assert len(operation["description"]) > 20, where
            assert "thread" not in operation["description"], where
            problem = operation["responses"]["400"]["content"]["application/problem+json"]
            assert problem["schema"]["$ref"].endswith("/Problem"), where
            if operation.get("requestBody"):
                assert list(operation["requestBody"]["content"]) == ["application/json"], where
    assert len(set(ids)) == len(ids) == 28 + 4 + 4 + 2 + 2  # methods, not paths
    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"


def test_viewer_from_elsewhere(still: Api) -> None:
    """No path serves a page that loads scripts from another host."""
    for path in ("/schema", "/schema/swagger", "/api", "/api/", "/docs", "/api/openapi.json/"):
        for login in (None, "ana"):
            answer = still.get(login, path)
            assert "text/html" not in answer.headers.get("content-type", ""), path
            assert "cdn" not in answer.text
