"""What people may type, and that no spelling of an address makes somebody else of them."""

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tidegate.base.errors import AskedWrongly
from tidegate.base.text import LONGEST_REASON, clean_text, is_hidden, mail_key

# The edges of Default_Ignorable_Code_Point, and one of each other kind that is refused.
UNSEEN = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b\u180f\u200b\u200f\u202a\u202e\u2060\u206f"
    "\u3164\ufe00\ufe0e\ufe0f\ufeff\uffa0\ufff0\ufff8\U0001bca0\U0001d17a\U000e0001\U000e0041"
    "\U000e0100\U000e01ef\U000e0fff\u2800\x00\x1b\x7f\u2028\u2029\ue000"
)
addresses = st.one_of(
    st.text(max_size=30),
    st.builds(
        "{}@{}".format,
        st.text(max_size=12),
        st.sampled_from(["gmail.com", "GoogleMail.com.", "x.invalid", "b\u00fccher。de", '"x"'])
        | st.text(max_size=12),
    ),
    st.text(alphabet='ab.+@"\\\u0301\u00df\u0130\u1e9e\ufe0f\u3002\uff0e\u00e9xn-', max_size=20),
)


@pytest.mark.parametrize("ch", UNSEEN, ids=lambda ch: f"U+{ord(ch):04X}")
def test_character_nobody_sees(ch: str) -> None:
    """It is refused inside any text, and named by its number."""
    with pytest.raises(AskedWrongly, match=f"U\\+{ord(ch):04X}"):
        clean_text("reason", f"roll{ch}back", LONGEST_REASON)
    assert mail_key(f"an{ch}a@x.invalid") == "ana@x.invalid"


@pytest.mark.parametrize(
    "text",
    ["Zoé", "Zoe\u0301", "Ångström", "naïve – “quoted”", "日本語", "עברית", "हिन्दी", "🚀 now"],
)
def test_accent_taken_for_an_invisible_mark(text: str) -> None:
    """Letters of every script, accents and signs are kept exactly as typed."""
    assert clean_text("reason", text, LONGEST_REASON) == text


@given(st.text(max_size=40))
def test_accepted_text_that_hides_something(text: str) -> None:
    """What is accepted is what was typed but for outer blanks, and holds nothing unseen."""
    try:
        kept = clean_text("reason", text, 20)
    except AskedWrongly as refused:
        assert refused.code in ("empty_reason", "long_reason", "bad_reason")
        return
    assert kept == text.strip(" \t\r\n")
    assert not any(is_hidden(ch) for ch in kept)


@pytest.mark.parametrize(
    ("mail", "key"),
    [
        ("Ana@X.Invalid", "ana@x.invalid"),
        ("ana+oncall+2@x.invalid", "ana@x.invalid"),
        ('"ana"@x.invalid', "ana@x.invalid"),
        ('"a\\na"@x.invalid', "ana@x.invalid"),
        ("ana@x.invalid.", "ana@x.invalid"),
        ("ana@x。invalid", "ana@x.invalid"),
        ("ana@x．invalid", "ana@x.invalid"),
        ("ana@x｡invalid", "ana@x.invalid"),
        ("ana＠x.invalid", "ana@x.invalid"),
        ("ａｎａ@x.invalid", "ana@x.invalid"),
        (" ana @ x.invalid ", "ana@x.invalid"),
        ("ana@x..invalid", "ana@x.invalid"),
        ("ana@b\u00fccher.de", "ana@xn--bcher-kva.de"),
        ("ana@BU\u0308CHER.de", "ana@xn--bcher-kva.de"),
        ("ana@XN--BCHER-KVA.de", "ana@xn--bcher-kva.de"),
        ("a.n.a@gmail.com", "ana@gmail.com"),
        ("A.na+x@GoogleMail.com", "ana@gmail.com"),
        ("a.na@x.invalid", "a.na@x.invalid"),
        ("", ""),
        ("no address", "noaddress"),
        ("@", "@"),
    ],
)
def test_second_spelling_of_one_address(mail: str, key: str) -> None:
    """Every spelling that reaches one mailbox has one key; dots count outside Gmail."""
    assert mail_key(mail) == key


@given(addresses)
@example("a.\u0301@gmail.com")
@example("x@" + "\u00fc" * 200)
@example("x@\u1806")
@example("\ud800@\udfff")
@example('"@"@"')
@example("xn--\u00fc@xn--\u00fc")
def test_key_that_is_not_its_own_key(mail: str) -> None:
    """No text breaks it, and folding once folds for good."""
    key = mail_key(mail)
    assert mail_key(key) == key
    assert not any(is_hidden(ch) or ch.isspace() for ch in key)


@given(addresses)
@example("\u03b1\u0345\u0301@x.invalid")
def test_key_by_another_spelling(mail: str) -> None:
    """Composition and invisible characters never make two keys of one text."""
    assert mail_key(unicodedata.normalize("NFD", mail)) == mail_key(mail)
    assert mail_key("\ufe0f".join(mail)) == mail_key(mail)
