"""A DataLoader's batches: in an arena, and as torch sends them."""

from __future__ import annotations

import time
from collections.abc import Callable

from benchmarks.harness import Bench
from benchmarks.peers import own_name


def run(bench: Bench) -> None:
    try:
        import torch
        from torch.utils.data import DataLoader, Dataset

        import flagstone.torch
    except ImportError as error:
        bench.skip("torch", str(error))
        return
    torch.set_num_threads(1)

    class Images(Dataset):  # type: ignore[misc]
        """Decoded already: what is measured is the way of a batch."""

        def __init__(self, height: int, width: int, count: int) -> None:
            self.images = torch.ones((8, 3, height, width), dtype=torch.uint8)
            self.count = count

        def __len__(self) -> int:
            return self.count

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            return self.images[index % 8], index

    with flagstone.open(own_name(), capacity="8GiB") as arena:
        collate = flagstone.torch.Collate(arena)
        for name, height, width, size in (("224", 224, 224, 64), ("1080p", 1080, 1920, 8)):
            count = size * (10 if bench.settings.quick else 40)
            images = Images(height, width, count)

            def through(function: object, size: int = size, images: Images = images) -> float:
                loader = DataLoader(
                    images, size, num_workers=2, collate_fn=function, persistent_workers=True
                )
                began = 0.0
                for _ in range(2):  # the first to start the workers
                    began = time.perf_counter()
                    for batch, _labels in loader:
                        assert batch[0, 0, 0, 0] == 1
                return (time.perf_counter() - began) / len(images) * 1e6

            def measured(function: object, through: Callable[..., float] = through) -> object:
                return lambda: through(function)

            samples = bench.compare(
                f"images of {name}, in batches of {size}",
                {"Collate": measured(collate), "torch": measured(None)},
                base="Collate",
                unit="us",
                note="Time for an image: copied into a batch by two workers, taken by the loop.",
            )
            ratio = samples.ratio("torch", "Collate")["median"]
            bench.target(f"times torch's throughput, {name}", ratio, 1.7, least=True)
