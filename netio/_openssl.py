"""The module `ssl`; on a Python that was built without it, what the files of netio name of it.

There is no TLS then, and everything else works.
"""

from __future__ import annotations

try:
    import ssl
except ImportError:
    from types import SimpleNamespace

    class _SSLError(OSError):
        pass

    class _SSLCertVerificationError(_SSLError, ValueError):
        pass

    def _no_context() -> None:
        raise RuntimeError("this Python was built without the module ssl, so there is no TLS")

    ssl = SimpleNamespace(  # type: ignore[assignment]
        SSLError=_SSLError,
        SSLCertVerificationError=_SSLCertVerificationError,
        SSLContext=type("SSLContext", (), {}),
        PROTOCOL_TLS_CLIENT="client",
        PROTOCOL_TLS_SERVER="server",
        create_default_context=_no_context,
    )

__all__ = ["ssl"]
