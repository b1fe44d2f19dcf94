"""Orientation volumes: files in and out, bundled samples, patches, array stores."""
