"""What RAW files of both encodings share: the version in the header, and the header that we write."""

from __future__ import annotations

from multiway_core.errors import InputError

from multiway_event_vision.events import check_size

LARGEST_ADDRESS = 1 << 11


def evt_version(header: dict[str, str]) -> str | None:
    """The encoding of a RAW file ("2.0", "2.1", "3.0" ...); None where the header names none."""
    if header.get("evt"):
        return header["evt"].split()[0]
    name = header.get("format", "").split(";")[0].upper()
    if name.startswith("EVT") and name[3:]:
        return name[3:] if "." in name else {"2": "2.0", "21": "2.1", "3": "3.0"}.get(name[3:], name[3:])
    return None


def evt_header(version: int, size: tuple[int, int]) -> bytes:
    """The text in front of the words; read by this package, OpenEB and others."""
    width, height = size
    return (
        f"% camera_integrator_name Multiway\n% evt {version}.0\n% format EVT{version};height={height};width={width}\n"
        f"% geometry {width}x{height}\n% end\n"
    ).encode()


def check_addressable(name: str, size: tuple[int, int]) -> None:
    """Raises InputError where a sensor of `size` exceeds what both encodings can address."""
    check_size(*size)
    if max(size) > LARGEST_ADDRESS:
        raise InputError(
            f"{name} addresses {LARGEST_ADDRESS} pixels a side, not {size[0]} x {size[1]}; write DAT or npz"
        )
