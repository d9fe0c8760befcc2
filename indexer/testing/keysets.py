"""Key sets of the shapes that buckets really have, for tests, simulations and benchmarks.

Invariants
  * The same shape, count and seed give the same keys, on every machine.
  * The keys ascend strictly by their bytes, are valid UTF-8 of at most 1,024 bytes, and are exactly
    as many as were asked for.
"""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Iterator, Mapping
from itertools import count as count_from
from itertools import islice
from types import MappingProxyType

SEED = 7


def keys(shape: str, count: int, seed: int = SEED) -> list[bytes]:
    """`count` keys of one of `SHAPES`, ascending; a million take some seconds."""
    if shape not in _SHAPES:
        raise ValueError(f"{shape!r} is no key shape; there are {', '.join(SHAPES)}")
    if count < 0:
        raise ValueError(f"cannot make {count} keys")
    candidates = _SHAPES[shape](count, random.Random(seed))
    found: set[str] = set()
    while len(found) < count:
        found.update(islice(candidates, count - len(found)))
    return sorted(key.encode() for key in found)


# Each shape yields candidates without end. It may repeat itself, but must bring new ones for ever.


def _hex(count: int, chance: random.Random) -> Iterator[str]:
    """Names that are hashes, in one flat directory."""
    while True:
        yield f"{chance.getrandbits(128):032x}"


def _deep_counter(count: int, chance: random.Random) -> Iterator[str]:
    """A zero-padded counter far down: all keys share their first 54 characters or more."""
    for index in count_from():
        yield f"org/team/project/datasets/lidar/v3/raw/scans/frame_{index:012d}.bin"


def _counter_unpadded(count: int, chance: random.Random) -> Iterator[str]:
    for index in count_from():
        yield f"d/{index}.jpg"


def _zipf_dirs(count: int, chance: random.Random) -> Iterator[str]:
    """Two hundred class directories, the largest of which holds a quarter of the keys."""
    total = 0.0
    cumulative = [total := total + 1 / rank**1.3 for rank in range(1, 201)]
    for start in count_from(0, 50):
        (directory,) = chance.choices(range(200), cum_weights=cumulative)
        for index in range(start, start + 50):
            yield f"data/class_{directory:03d}/img_{index:09d}.jpg"


def _dates(count: int, chance: random.Random) -> Iterator[str]:
    """Hive partitions by hour over three years, the parts of which have random names."""
    for index in count_from():
        day = index * 3 * 336 // max(count, 1)
        yield (
            f"logs/year={2022 + day // 336}/month={1 + day % 336 // 28:02d}/day={1 + day % 28:02d}"
            f"/hour={index % 24:02d}/part-{_uuid(chance)}.parquet"
        )


def _uuid_dirs(count: int, chance: random.Random) -> Iterator[str]:
    """One key a directory, all below the same parent."""
    while True:
        yield f"s/{_uuid(chance)}/meta.json"


def _words(count: int, chance: random.Random) -> Iterator[str]:
    """A thousand directories named by words, of names that begin with words."""
    letters = string.ascii_lowercase
    words = ["".join(chance.choices(letters, k=chance.randint(3, 9))) for _ in range(1000)]
    for index in count_from():
        directory, first, second = chance.choices(words, k=3)
        yield f"{directory}/{first}_{second}_{index:07d}.JPEG"


def _unicode(count: int, chance: random.Random) -> Iterator[str]:
    """Nearly as many directories as keys, named by two of two thousand ideographs."""
    for index in count_from():
        first, second = (chr(0x4E00 + chance.randrange(2000)) for _ in range(2))
        yield f"データ/画像/{first}{second}/{index:06d}.png"


def _one_hot(count: int, chance: random.Random) -> Iterator[str]:
    """99 % of the keys in one deep directory at the end, the rest thinly before it."""
    for index in count_from():
        if index % 100:
            yield f"zz/hot/hot/hot/{chance.getrandbits(64):016x}"
        else:
            yield f"a{index // 100 % 100:02d}/x{index}"


def _epoch_ms(count: int, chance: random.Random) -> Iterator[str]:
    """Names that are times in milliseconds, 100 ms apart in the mean."""
    time_ms = 1_700_000_000_000
    while True:
        time_ms += chance.randint(1, 200)
        yield f"cam0/{time_ms}.jpg"


def _runs(count: int, chance: random.Random) -> Iterator[str]:
    """Drives of five sensors with a thousand frames each."""
    sensors = ("cam_front", "cam_left", "cam_right", "lidar", "radar")
    for index in count_from():
        frame = index // 5 % 1000
        yield f"drive/run_{index // 5000:04d}/{sensors[index % 5]}/{frame:06d}.bin"


def _long_prefix(count: int, chance: random.Random) -> Iterator[str]:
    """900 characters before the first that differs (one path component: not for MinIO)."""
    prefix = "p" * 900
    for index in count_from():
        yield f"{prefix}/{index:08d}"


def _two_clusters(count: int, chance: random.Random) -> Iterator[str]:
    """Two counters with nothing between them, one below 200 characters of prefix."""
    prefix = "z" * 200
    for index in count_from():
        yield f"{prefix}/{index * 7:020d}" if index % 2 else f"A/{index:020d}"


def _base64(count: int, chance: random.Random) -> Iterator[str]:
    """Eleven characters of the URL-safe alphabet, as video sites use."""
    alphabet = string.ascii_letters + string.digits + "-_"
    while True:
        yield "".join(chance.choices(alphabet, k=11)) + ".mp4"


def _control(count: int, chance: random.Random) -> Iterator[str]:
    """Control characters, line separators and an emoji in the place of slashes."""
    separators = "\x01\x02\x05\t\n\r\x7f\x85\u2028\U0001f600"
    for index in count_from():
        yield f"x\x01{chance.choice(separators)}\x02{index:06d}"


def _emoji(count: int, chance: random.Random) -> Iterator[str]:
    while True:
        yield "".join(chr(0x1F300 + chance.randrange(500)) for _ in range(4))


def _suffix_noise(count: int, chance: random.Random) -> Iterator[str]:
    """Sixty counters, each below one more character of a long run of the same one."""
    for index in count_from():
        yield f"t/{'x' * chance.randint(1, 60)}/{index:06d}"


def _imagenet(count: int, chance: random.Random) -> Iterator[str]:
    """Class directories with sparse numbers, of 1,280 names with an unpadded counter."""
    synset = 1_440_000
    while True:
        synset += chance.randint(1, 27_000)
        for index in range(1280):
            yield f"train/n{synset:08d}/n{synset:08d}_{index}.JPEG"


def _shards(count: int, chance: random.Random) -> Iterator[str]:
    """1,024 shard directories of random names."""
    for index in count_from():
        yield f"shard-{index % 1024:05d}-of-01024/{chance.getrandbits(64):016x}.jpg"


def _flat(count: int, chance: random.Random) -> Iterator[str]:
    """One directory of zero-padded names."""
    for index in count_from():
        yield f"flat/object_{index:010d}.bin"


def _tree(count: int, chance: random.Random) -> Iterator[str]:
    """Directories of ten directories of a hundred files each."""
    for index in count_from():
        yield f"tree/{index // 1000:06d}/{index // 100 % 10:02d}/{index % 100:04d}.bin"


def _uuid(chance: random.Random) -> str:
    digits = f"{chance.getrandbits(128):032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


_SHAPES: Mapping[str, Callable[[int, random.Random], Iterator[str]]] = MappingProxyType(
    {
        "hex": _hex,
        "deep_counter": _deep_counter,
        "counter_unpadded": _counter_unpadded,
        "zipf_dirs": _zipf_dirs,
        "dates": _dates,
        "uuid_dirs": _uuid_dirs,
        "words": _words,
        "unicode": _unicode,
        "one_hot": _one_hot,
        "epoch_ms": _epoch_ms,
        "runs": _runs,
        "long_prefix": _long_prefix,
        "two_clusters": _two_clusters,
        "base64": _base64,
        "control": _control,
        "emoji": _emoji,
        "suffix_noise": _suffix_noise,
        "imagenet": _imagenet,
        "shards": _shards,
        "flat": _flat,
        "tree": _tree,
    }
)

SHAPES: tuple[str, ...] = tuple(_SHAPES)
"""The name of every shape."""
