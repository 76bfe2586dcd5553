"""A message for one reader: X25519, HKDF-SHA256, ChaCha20-Poly1305.

The reader makes a key pair for one message and tells the public half; who writes makes one too. The
key is derived from both public halves and the secret they share, and from what the message is
bound to, so it opens for that reader and as that answer only. Each key pair is used once, which is
why the nonce may be zero. Pure: random bytes are given.
"""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.constant_time import bytes_eq
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tidegate.base.errors import WorldFailed

SECRET_BYTES = PUBLIC_BYTES = KEY_BYTES = 32
NONCE = bytes(12)

_TITLE = b"tidegate.sealed-box.v1"
_MARKS = b"tidegate.errand-marks.v1"


def public_of(secret: bytes) -> bytes:
    """The public half of a key pair whose secret is these 32 random bytes."""
    return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def seal_box(message: bytes, reader: bytes, bound_to: bytes, secret: bytes) -> bytes:
    """`message` for whoever has the secret of the public key `reader`.

    Args:
        message: what is hidden.
        reader: the public half of the reader's key pair.
        bound_to: what it is an answer to; it must be told again to open it.
        secret: 32 random bytes, never used before.

    Raises:
        ValueError: `reader` is no public key.
    """
    ours = X25519PrivateKey.from_private_bytes(secret)
    public = ours.public_key().public_bytes_raw()
    shared = ours.exchange(X25519PublicKey.from_public_bytes(reader))
    cipher = ChaCha20Poly1305(_key(shared, public, reader, bound_to))
    return public + cipher.encrypt(NONCE, message, bound_to)


def open_box(box: bytes, secret: bytes, bound_to: bytes) -> bytes:
    """The message in `box`. Raises WorldFailed `box_broken`: for another reader, or changed."""
    try:
        ours = X25519PrivateKey.from_private_bytes(secret)
        theirs = box[:PUBLIC_BYTES]
        shared = ours.exchange(X25519PublicKey.from_public_bytes(theirs))
        cipher = ChaCha20Poly1305(_key(shared, theirs, public_of(secret), bound_to))
        return cipher.decrypt(NONCE, box[PUBLIC_BYTES:], bound_to)
    except (InvalidTag, ValueError) as fault:
        raise WorldFailed(
            "box_broken",
            "expected an answer sealed to the key it was asked with, got another",
            "ask again; if it stays, somebody else writes to the database",
        ) from fault


def shared_key(secret: bytes) -> bytes:
    """A key for `mark`, out of a secret that all processes of an installation have.

    It is another key than the secret, by HKDF, so a mark is never a signature of anything.
    """
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=_MARKS).derive(secret)


def mark(key: bytes, purpose: str, *parts: str) -> bytes:
    """HMAC-SHA256 over `purpose` and `parts`, each with its length before it.

    Raises:
        RuntimeError: no key: our own bug, never a mark that anybody could make.
    """
    if len(key) != KEY_BYTES:
        raise RuntimeError(f"a key for marks of {KEY_BYTES} bytes, got {len(key)}")
    told = HMAC(key, SHA256())
    for part in (purpose, *parts):
        data = part.encode()
        told.update(len(data).to_bytes(8) + data)
    return told.finalize()


def same_mark(left: bytes, right: bytes) -> bool:
    """Whether two marks are equal, in a time that tells nothing of where they differ."""
    return bytes_eq(left, right)


def _key(shared: bytes, writer: bytes, reader: bytes, bound_to: bytes) -> bytes:
    info = b"\n".join((_TITLE, writer + reader, bound_to))
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(shared)
