"""Servers for every test that asks for one by name."""

from __future__ import annotations

from servers.fixtures import (
    azurite,
    fake_google,
    faulty_azure,
    faulty_google,
    faulty_s3,
    gcs_emulator,
    ministack,
    moto,
    rclone,
)

__all__ = ["azurite", "fake_google", "faulty_azure", "faulty_google", "faulty_s3", "gcs_emulator", "ministack", "moto", "rclone"]
