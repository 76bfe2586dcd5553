"""The policy evaluator, statement by statement."""

from __future__ import annotations

from typing import Any

import pytest

from tidegate_standin.policy import Question, Unserved, decide, read_document


def _deny(**condition: dict[str, Any]) -> list[dict[str, Any]]:
    everything = {"Action": "*", "Resource": "*"}
    return [
        {
            "Statement": [
                {"Effect": "Allow", **everything},
                {"Effect": "Deny", **everything, "Condition": condition},
            ]
        }
    ]


def _ask(documents: list[dict[str, Any]], **context: str) -> str:
    keys = {key.replace("_", ":", 1): value for key, value in context.items()}
    question = Question(action="iam:ListUsers", resource="arn:aws:iam::1:user/", context=keys)
    return decide([read_document(one) for one in documents], question)


@pytest.mark.parametrize(
    ("operator", "wanted", "have", "applies"),
    [
        ("StringEquals", "a", "a", True),
        ("StringEquals", ["b", "a"], "a", True),
        ("StringEquals", "A", "a", False),
        ("StringEquals", "a", None, False),
        ("StringNotEquals", "a", "b", True),
        ("StringNotEquals", ["a", "b"], "b", False),
        ("StringNotEquals", "a", None, True),
        ("StringEqualsIfExists", "a", None, True),
        ("StringLike", "tide*", "tidegate", True),
        ("StringLike", "tide?", "tidegate", False),
        ("ArnLike", "arn:*:role/x", "arn:aws:iam::1:role/x", True),
        ("ArnNotLike", "arn:*:role/x", "arn:aws:iam::1:role/y", True),
        ("Null", "true", None, True),
        ("Null", True, "a", False),
        ("Bool", "true", "True", True),
    ],
)
def test_condition_on_a_string(
    operator: str, wanted: object, have: str | None, applies: bool
) -> None:
    """A missing key fails a plain operator and passes a negated one."""
    context = {} if have is None else {"aws_PrincipalArn": have}
    answer = _ask(_deny(**{operator: {"aws:principalarn": wanted}}), **context)
    assert answer == ("explicitDeny" if applies else "allowed")


@pytest.mark.parametrize(
    ("operator", "issued", "applies"),
    [
        ("DateLessThan", "2026-01-01T00:00:00Z", False),
        ("DateLessThan", "2025-12-31T23:59:59Z", True),
        ("DateLessThanEquals", "2026-01-01T00:00:00Z", True),
        ("DateGreaterThan", "2026-01-01T00:00:00Z", False),
        ("DateGreaterThanEquals", "2026-01-01T00:00:00Z", True),
        ("DateLessThan", None, False),
    ],
)
def test_condition_on_an_instant(operator: str, issued: str | None, applies: bool) -> None:
    """The issue time at the very instant is not before it."""
    context = {} if issued is None else {"aws_TokenIssueTime": issued}
    condition = {operator: {"aws:TokenIssueTime": "2026-01-01T00:00:00Z"}}
    assert _ask(_deny(**condition), **context) == ("explicitDeny" if applies else "allowed")


def test_conditions_are_all_needed() -> None:
    """A deny by person and time does not hit the person alone."""
    both = {
        "StringEquals": {"identitystore:UserId": "u1"},
        "DateLessThan": {"aws:TokenIssueTime": "2026-01-01T00:00:00Z"},
    }
    later = "2026-01-01T00:00:01Z"
    hit = _ask(_deny(**both), identitystore_UserId="u1", aws_TokenIssueTime="2025-01-01T00:00:00Z")
    assert hit == "explicitDeny"
    missed = _ask(_deny(**both), identitystore_UserId="u1", aws_TokenIssueTime=later)
    assert missed == "allowed"


@pytest.mark.parametrize(
    ("statement", "answer"),
    [
        ({"Action": "IAM:list*", "Resource": "*"}, "allowed"),
        ({"NotAction": "iam:*", "Resource": "*"}, "implicitDeny"),
        ({"NotAction": "sso:*", "Resource": "*"}, "allowed"),
        ({"Action": "*", "Resource": "arn:aws:iam::1:role/*"}, "implicitDeny"),
        ({"Action": "*", "NotResource": "arn:aws:iam::1:role/*"}, "allowed"),
    ],
)
def test_action_and_resource(statement: dict[str, str], answer: str) -> None:
    """Actions match without case, resources with it, and Not turns them round."""
    assert _ask([{"Statement": {"Effect": "Allow", **statement}}]) == answer


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        '{"Statement":[{"Effect":"Maybe","Action":"*"}]}',
        '{"Statement":[{"Effect":"Deny"}]}',
        '{"Statement":[{"Effect":"Deny","Action":"*","Principal":"*"}]}',
        '{"Statement":[{"Effect":"Deny","Action":"*","Condition":{"IpAddress":{"a":"b"}}}]}',
        '{"Statement":[{"Effect":"Deny","Action":"*","Condition":{"StringEquals":{"a":"${b}"}}}]}',
        '{"Statement":[{"Effect":"Deny","Action":"*","Condition":{"DateLessThan":{"a":"soon"}}}]}',
        '{"Statement":[{"Effect":"Deny","Action":"*","Condition":[]}]}',
    ],
)
def test_document_that_would_be_decided_wrongly_is_not_taken(text: str) -> None:
    """What the evaluator does not serve is refused when it comes in."""
    with pytest.raises(Unserved):
        read_document(text)
