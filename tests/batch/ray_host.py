"""``python -m tests.batch.ray_host``: a cluster as verdiff starts one, until standard input ends."""

from __future__ import annotations

import json
import os
import sys

from verdiff.batch.ray_cluster import LOCAL, cluster


def main() -> None:
    with cluster(LOCAL, cpus=2) as ray:
        context = ray.get_runtime_context()
        folder = os.path.dirname(ray.nodes()[0]["ObjectStoreSocketName"])
        said = {
            "address": context.gcs_address,
            "folder": folder,
            "token": os.environ["RAY_AUTH_TOKEN"],
            "mode": os.environ["RAY_AUTH_MODE"],
        }
        print(json.dumps(said), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
