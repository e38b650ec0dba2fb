"""A DataLoader whose workers write batches into shared memory; a loop that is left leaves nothing.

Run it: python examples/torch_loader.py   (without torch it only says so)
"""

import os
import sys

try:
    import torch
    from torch.utils.data import DataLoader, Dataset
except ImportError:
    print('torch is not installed: pip install "flagstone[torch]"')
    sys.exit()

import flagstone
import flagstone.torch


class Images(Dataset):
    """Images that are made when they are asked for."""

    def __len__(self):
        return 64

    def __getitem__(self, index):
        return {"image": torch.full((3, 64, 64), float(index)), "label": index}


def main():
    torch.set_num_threads(1)
    with flagstone.open(f"loader-{os.getpid()}", capacity="256MiB") as arena:
        collate = flagstone.torch.Collate(arena)
        loader = DataLoader(Images(), 8, num_workers=2, collate_fn=collate)
        total = sum(int(batch["label"].sum()) for batch in loader)
        assert total == sum(range(64))
        print(f"{len(loader)} batches, and the labels' sum is {total}")
        for batch in loader:
            block, _ = flagstone.block_of(batch["image"])
            print(f"a batch of {tuple(batch['image'].shape)} in {block.nbytes >> 10} KiB")
            break  # the workers are ahead of us: what they made is dropped
        del batch, block
        print(f"in flight: {len(arena.in_flight())}")
        assert arena.in_flight() == []


if __name__ == "__main__":
    main()
