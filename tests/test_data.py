"""Loading from made-up files, the real ones where they are, what goes wrong, and the corruptions."""

import errno
import gzip
import hashlib
import http.server
import os
import pickle
import random
import socket
import struct
import tarfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from lessons_lib import data, image_files
from lessons_lib.data import DataError
from lessons_lib.settings import seed_for
from lessons_lib.torchvision_compat import import_torchvision

MNIST_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def no_network(monkeypatch):
    monkeypatch.setattr(image_files, "_reachable", lambda urls: False)


def same(a, b):
    return all(torch.equal(getattr(a, key), getattr(b, key)) for key in ("x_train", "y_train", "x_test", "y_test"))


def rows(x):
    return sorted(x.flatten(1).tolist())


# --- the embedded sets


def test_digits_are_split_by_seed_and_standardized():
    d = data.load("digits", seed=1)
    assert (len(d.y_train), len(d.y_test), d.shape, d.n_classes) == (1200, 597, (1, 8, 8), 10)
    assert d.x_train.dtype == torch.float32 and d.y_train.dtype == torch.int64
    assert d.x_train.mean().item() == pytest.approx(0, abs=1e-5)
    assert d.x_train.std().item() == pytest.approx(1, abs=1e-5)
    raw = data.load("digits", seed=1, preprocess="none")
    assert rows(torch.cat([raw.x_train, raw.x_test])) == rows(torch.tensor(load_digits().images / 16))
    mean, std = raw.x_train.mean(), raw.x_train.std()
    torch.testing.assert_close(d.x_test, (raw.x_test - mean) / std)  # the training set's, not its own
    assert same(d, data.load("digits", seed=1))
    assert rows(d.x_test) != rows(data.load("digits", seed=2).x_test)


def test_digits_keep_their_labels():
    images, labels = load_digits(return_X_y=True)
    label_of = {tuple(image): label for image, label in zip(images.tolist(), labels.tolist(), strict=True)}
    d = data.load("digits", preprocess="none")
    for x, y in ((d.x_train, d.y_train), (d.x_test, d.y_test)):
        assert [label_of[tuple(row)] for row in (x.flatten(1) * 16).tolist()] == y.tolist()


def test_a_smaller_draw_is_the_beginning_of_a_larger_one():
    small, large = (data.load("digits", n, 50, seed=3, preprocess="none") for n in (100, 300))
    assert torch.equal(small.x_train, large.x_train[:100]) and torch.equal(small.y_train, large.y_train[:100])
    assert (len(small.y_train), len(small.y_test)) == (100, 50)


def test_mnist1d_is_the_packages_under_our_seed():
    from mnist1d.data import get_dataset_args, make_dataset

    d = data.load("mnist1d", 95, 20, seed=4)
    assert (d.shape, len(d.y_train), len(d.y_test)) == ((1, 40), 95, 20)
    args = get_dataset_args()
    args.num_samples, args.seed = 120, seed_for("mnist1d", base=4) % 2**32
    made = make_dataset(args)
    x = torch.from_numpy(np.concatenate([made["x"], made["x_test"]])).float()
    y = np.concatenate([made["y"], made["y_test"]])
    assert rows(d.x_train) == rows(x[:95]) and rows(d.x_test) == rows(x[95:115])
    assert sorted(d.y_train.tolist()) == sorted(y[:95].tolist())
    assert not same(d, data.load("mnist1d", 95, 20, seed=5))


def test_the_global_generators_are_left_alone(generator):
    def states():
        return random.getstate(), pickle.dumps(np.random.get_state()), torch.get_rng_state().tolist()

    before = states()
    d = data.load("mnist1d", 20, 10)
    data.load("digits", 20, 10)
    for condition in data.CONDITIONS:
        data.corrupt(d, condition, generator)
    assert states() == before


# --- files


def write_idx(path, array, zipped):
    content = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    if zipped:
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(content))
    else:
        path.write_bytes(content)


@pytest.fixture(params=[True, False], ids=["gz", "unpacked"])
def mnist_root(tmp_path, request):
    rng = np.random.default_rng(0)
    for n, names in ((30, MNIST_FILES["train"]), (12, MNIST_FILES["test"])):
        images, labels = rng.integers(0, 256, (n, 28, 28), np.uint8), np.arange(n, dtype=np.uint8) % 10
        for name, array in zip(names, (images, labels), strict=True):
            write_idx(tmp_path / "MNIST" / "raw" / name, array, request.param)
    return tmp_path


def test_mnist_reads_what_torchvision_reads(mnist_root, tmp_path_factory):
    before = {path: path.read_bytes() for path in mnist_root.rglob("*") if path.is_file()}
    d = data.load("mnist", root=mnist_root, preprocess="none")
    assert {path: path.read_bytes() for path in mnist_root.rglob("*") if path.is_file()} == before

    unpacked = tmp_path_factory.mktemp("unpacked")  # all that torchvision itself can read
    for path, content in before.items():
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        target = unpacked / "MNIST" / "raw" / path.name.removesuffix(".gz")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    for train, x, y in ((True, d.x_train, d.y_train), (False, d.x_test, d.y_test)):
        theirs = import_torchvision("datasets").MNIST(unpacked, train=train)
        ours = sorted(zip((x * 255).round().flatten(1).tolist(), y.tolist(), strict=True))
        expected = theirs.data.float().flatten(1).tolist()
        assert ours == sorted(zip(expected, theirs.targets.tolist(), strict=True))
        assert x.shape[1:] == (1, 28, 28)


@pytest.mark.parametrize("mnist_root", [True], indirect=True)
@pytest.mark.parametrize(
    "change",
    [
        lambda old: old[: len(old) // 2],
        lambda old: b"not a gzip file",
        lambda old: gzip.compress(gzip.decompress(old)[:-5]),
        lambda old: gzip.compress(b"\0\0\x0d\3" + gzip.decompress(old)[4:]),
        lambda old: gzip.compress(b"\0\0"),
    ],
    ids=["truncated", "not gzip", "short", "of floats", "almost empty"],
)
def test_damaged_mnist_files_are_named_and_kept(mnist_root, change):
    path = mnist_root / "MNIST" / "raw" / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(change(path.read_bytes()))
    before = path.read_bytes()
    with pytest.raises(DataError, match="t10k-images-idx3-ubyte.gz.*LESSONS_DATA.*'digits'") as error:
        data.load("mnist", root=mnist_root)
    assert str(path.parent) in str(error.value)
    assert path.read_bytes() == before


@pytest.mark.parametrize("mnist_root", [False], indirect=True)
def test_mnist_files_that_do_not_belong_together(mnist_root):
    raw = mnist_root / "MNIST" / "raw"
    write_idx(raw / "train-labels-idx1-ubyte", np.zeros(31, np.uint8), zipped=False)
    with pytest.raises(DataError, match="training files are not MNIST's"):
        data.load("mnist", root=mnist_root)
    write_idx(raw / "train-labels-idx1-ubyte", np.full(30, 10, np.uint8), zipped=False)
    with pytest.raises(DataError, match="training files are not MNIST's"):
        data.load("mnist", root=mnist_root)


@pytest.fixture
def cifar_root(tmp_path, monkeypatch):
    """CIFAR-10's files with four images each, and torchvision's checksums set to theirs."""
    rng = np.random.default_rng(0)
    cifar10 = import_torchvision("datasets").CIFAR10
    folder = tmp_path / cifar10.base_folder
    folder.mkdir()

    def write(name, content):
        (folder / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((folder / name).read_bytes()).hexdigest()]

    def batch(label):
        return {"data": rng.integers(0, 256, (4, 3072), np.uint8), "labels": [label] * 4}

    train = [write(f"data_batch_{i}", batch(i)) for i in range(1, 6)]
    test = [write("test_batch", batch(0))]
    name, md5 = write("batches.meta", {"label_names": list("abcdefghij")})
    monkeypatch.setattr(cifar10, "train_list", train)
    monkeypatch.setattr(cifar10, "test_list", test)
    monkeypatch.setattr(cifar10, "meta", {"filename": name, "key": "label_names", "md5": md5})
    return tmp_path


def test_cifar10_is_cropped_and_whitened_as_in_the_paper(cifar_root):
    d = data.load("cifar10", root=cifar_root)
    assert (d.name, d.preprocess, d.shape) == ("CIFAR-10", "crop and whiten", (3, 28, 28))
    assert d.x_train.is_contiguous()
    stored = pickle.loads((cifar_root / "cifar-10-batches-py" / "test_batch").read_bytes())["data"]
    images = stored.reshape(4, 3, 32, 32)[:, :, 2:30, 2:30].reshape(4, -1) / 255
    expected = (images - images.mean(1, keepdims=True)) / images.std(1, keepdims=True)
    np.testing.assert_allclose(rows(d.x_test), sorted(expected.tolist()), atol=1e-4)
    assert sorted(d.y_train.tolist()) == sorted([1, 2, 3, 4, 5] * 4)


def test_cifar10_files_with_another_checksum_are_not_opened(cifar_root):
    batch = cifar_root / "cifar-10-batches-py" / "data_batch_3"
    batch.write_bytes(batch.read_bytes()[:-1])
    with pytest.raises(DataError, match="data_batch_3. Move them away.*LESSONS_DATA"):
        data.load("cifar10", root=cifar_root)
    assert batch.exists()


@pytest.fixture
def image_folder(tmp_path):
    """A folder of two classes, 6 + 4 images of 30x28, each of a colour that tells its class and number."""
    root = tmp_path / "shapes"
    for part, n in (("train", 3), ("test", 2)):
        for label, name in enumerate(("circle", "square")):
            folder = root / part / name
            folder.mkdir(parents=True)
            for index in range(n):
                Image.new("RGB", (30, 28), (100 * label, 10 * index, 7)).save(folder / f"{index}.png")
    return root


def test_a_folder_of_images(image_folder):
    d = data.load(image_folder, preprocess="none", threads=2)
    assert (d.name, d.n_classes, d.shape) == ("shapes", 2, (3, 28, 30))
    colours = (d.x_train[:, :, 0, 0] * 255).round().int().tolist()
    found = sorted([*colour, label] for colour, label in zip(colours, d.y_train.tolist(), strict=True))
    assert found == [[100 * label, 10 * index, 7, label] for label in (0, 1) for index in range(3)]
    # By its name in the data folder, too; a subset is the same however many threads decode it.
    by_name = data.load("shapes", 4, 2, root=image_folder.parent, preprocess="none", threads=1)
    assert torch.equal(by_name.x_train, d.x_train[:4]) and torch.equal(by_name.y_test, d.y_test[:2])


def test_the_jpeg_copy_stands_in_for_cifar10_and_says_so(image_folder, no_network):
    image_folder.rename(image_folder.parent / "cifar10-jpeg")
    d = data.load("cifar10", root=image_folder.parent)
    assert (d.name, d.preprocess, d.shape) == ("CIFAR-10 (JPEG copy)", "crop and whiten", (3, 28, 28))
    assert same(d, data.load(image_folder.parent / "cifar10-jpeg"))


def test_folders_laid_out_otherwise_are_refused(image_folder):
    with pytest.raises(DataError, match=r"train/<class>/<image>.*LESSONS_DATA"):
        data.load(image_folder / "train")
    Image.new("RGB", (30, 27)).save(image_folder / "test" / "square" / "2.png")
    with pytest.raises(DataError, match="differ in size"):
        data.load(image_folder)
    (image_folder / "test" / "square" / "2.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"2\.png is not a readable image"):
        data.load(image_folder)
    (image_folder / "test" / "square").rename(image_folder / "test" / "triangle")
    with pytest.raises(DataError, match="square, triangle"):
        data.load(image_folder)


# --- preprocessing


def test_whitening_keeps_flat_images_finite():
    x = torch.stack([torch.full((1, 4, 4), 0.5), torch.arange(16.0).view(1, 4, 4)])
    flat, ramp = x.clone(), x.clone()
    data._whiten(flat, ramp)
    assert torch.equal(flat[0], torch.zeros(1, 4, 4))
    torch.testing.assert_close(ramp[1], (x[1] - 7.5) / x[1].std(correction=0))


# --- what goes wrong


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_absent_data_without_a_network(name, tmp_path, no_network):
    with pytest.raises(DataError, match="no network.*LESSONS_DATA.*'digits' or 'mnist1d'") as error:
        data.load(name, root=tmp_path / "nowhere")
    assert str(tmp_path / "nowhere") in str(error.value)
    assert not (tmp_path / "nowhere").exists()


def test_unknown_names_and_options(tmp_path):
    with pytest.raises(DataError, match="'MNSIT'. Did you mean 'mnist'.*mnist1d, digits, mnist, cifar10"):
        data.load("MNSIT", root=tmp_path)
    with pytest.raises(DataError, match="There is no folder .*absent"):
        data.load(tmp_path / "absent")
    with pytest.raises(DataError, match="standardize, whiten, crop and whiten"):
        data.load("digits", preprocess="scale")
    with pytest.raises(DataError, match="1 x 8 x 8, too small to crop"):
        data.load("digits", preprocess="crop and whiten")
    with pytest.raises(DataError, match="n_test is 0"):
        data.load("digits", n_test=0)


def test_more_samples_than_there_are(image_folder):
    with pytest.raises(DataError, match="n_train is 1,500, but digits has only 1,200"):
        data.load("digits", 1500)
    with pytest.raises(DataError, match="n_test is 5, but shapes has only 4 .*LESSONS_DATA"):
        data.load(image_folder, n_test=5)


def test_a_server_that_never_answers_does_not_keep_us_waiting(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")

    class Refuses(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_error(403)

        def log_message(self, *args):
            pass

    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        assert not image_files._reachable([f"http://127.0.0.1:{silent.getsockname()[1]}/"], seconds=0.3)
        assert time.monotonic() - began < 3
    with http.server.HTTPServer(("127.0.0.1", 0), Refuses) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert image_files._reachable([f"http://127.0.0.1:{server.server_port}/"])
        server.shutdown()


def test_a_download_adds_what_is_missing_and_replaces_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(image_files, "_reachable", lambda urls: True)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a").write_text("old")

    def dataset(place, download):
        assert socket.getdefaulttimeout() == 30
        Path(place, "set").mkdir()
        for name in "ab":
            Path(place, "set", name).write_text("new")

    image_files._download("Set", dataset, ["url"], tmp_path, Path("set"))
    assert {path.name: path.read_text() for path in (tmp_path / "set").iterdir()} == {"a": "old", "b": "new"}
    assert socket.getdefaulttimeout() is None

    def broken(place, download):
        Path(place, "half").write_text("half")
        raise RuntimeError("connection lost")

    with pytest.raises(DataError, match="download failed: connection lost.*LESSONS_DATA"):
        image_files._download("Set", broken, ["url"], tmp_path, Path("set"))
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_download_that_has_nowhere_to_go_is_one_clear_error(tmp_path, monkeypatch):
    monkeypatch.setattr(image_files, "_reachable", lambda urls: True)

    def fills_the_disk(place, download):
        Path(place, "half").write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(DataError, match="download failed: .*No space left on device.*LESSONS_DATA"):
        image_files._download("Set", fills_the_disk, ["url"], tmp_path, Path("set"))
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="download failed: .*File exists.*LESSONS_DATA"):
        image_files._download("Set", fills_the_disk, ["url"], tmp_path / "file", Path("set"))


# --- corruptions


def test_corrupted_labels_change_with_the_probability_stated(generator):
    y = torch.arange(50_000) % 10
    for p in (0.0, 0.3, 1.0):
        z = data.corrupt_labels(y, p, 10, generator)
        assert (z != y).float().mean().item() == pytest.approx(0.9 * p, abs=0.01)
        # Whatever it was, a replaced label is uniform: each row of the confusion matrix is (1-p) I + p/10.
        table = torch.zeros(10, 10).index_put_((y, z), torch.ones(()), accumulate=True) / 5_000
        torch.testing.assert_close(table, (1 - p) * torch.eye(10) + p / 10, atol=0.025, rtol=0)
    assert torch.equal(y, torch.arange(50_000) % 10)


def test_corruptions_of_one_generator_state_are_nested():
    y = torch.zeros(1000, dtype=torch.int64)
    low, high = (data.corrupt_labels(y, p, 10, torch.Generator().manual_seed(7)) for p in (0.2, 0.6))
    changed = low != y
    assert 0 < changed.sum() < (high != y).sum()
    assert torch.equal(low[changed], high[changed])


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
def test_p_is_a_probability(p, generator):
    with pytest.raises(DataError, match="between 0 and 1"):
        data.corrupt_labels(torch.zeros(3, dtype=torch.int64), p, 10, generator)


def numbered(n, channels=2, side=4):
    """Images whose pixel values name position and channel: position + 1000 * channel."""
    positions = torch.arange(float(side**2)).view(1, 1, side, side)
    return (positions + 1000 * torch.arange(channels).view(1, -1, 1, 1)).repeat(n, 1, 1, 1)


def test_shuffled_pixels_use_one_permutation_and_keep_channels_together(generator):
    x = numbered(5)
    permutation = torch.randperm(16, generator=generator)
    shuffled = data.shuffle_pixels(x, permutation)
    assert torch.equal(shuffled[:, 0].flatten(1), permutation.float().expand(5, -1))
    assert torch.equal(shuffled[:, 1] - shuffled[:, 0], torch.full((5, 4, 4), 1000.0))
    assert torch.equal(data.shuffle_pixels(shuffled, permutation.argsort()), x)
    drawn = data.shuffle_pixels(x, torch.Generator().manual_seed(0))
    assert torch.equal(drawn, shuffled)


def test_random_pixels_use_a_permutation_for_each_image(generator):
    x = numbered(3000)  # more than a block
    moved = data.random_pixels(x, generator)
    first = moved[:, 0].flatten(1)
    assert torch.equal(first.sort(1).values, x[:, 0].flatten(1))
    assert torch.equal(moved[:, 1] - moved[:, 0], torch.full((3000, 4, 4), 1000.0))
    assert len(torch.unique(first, dim=0)) == 3000
    # Every pixel is equally likely everywhere: chi-squared of a 16 x 16 table, 225 degrees of freedom.
    table = torch.zeros(16, 16)
    table.index_put_((torch.arange(16).expand(3000, -1), first.long()), torch.ones(()), accumulate=True)
    assert ((table - 187.5).square() / 187.5).sum() < 225 + 5 * (2 * 225) ** 0.5


def test_gaussian_pixels_match_mean_and_variance(generator):
    x = 3 + 2 * torch.rand(200, 3, 10, 10, generator=generator)
    noise = data.gaussian_pixels(x, generator)
    assert noise.shape == x.shape
    assert noise.mean().item() == pytest.approx(x.mean().item(), abs=0.02)
    assert noise.var().item() == pytest.approx(x.var().item(), abs=0.02)
    assert (noise > 5).any()  # not the data's own range
    other = data.gaussian_pixels(x[:50], generator, like=torch.tensor([-1.0, 1.0]))
    assert other.var().item() == pytest.approx(2, abs=0.1)


def test_the_five_conditions(generator):
    d = data.load("digits", 200, 100)
    corrupted = {condition: data.corrupt(d, condition, generator) for condition in data.CONDITIONS}
    assert same(corrupted["true labels"], d)
    labels = corrupted["random labels"]
    assert same(replace(labels, y_train=d.y_train), d)
    assert 0.8 < (labels.y_train != d.y_train).float().mean() < 1
    for condition in ("shuffled pixels", "random pixels", "gaussian"):
        changed = corrupted[condition]
        assert torch.equal(changed.y_train, d.y_train) and torch.equal(changed.y_test, d.y_test)
        assert changed.shape == d.shape and not torch.equal(changed.x_test, d.x_test)
    # One permutation for both parts: any image that is in both stays in both.
    twice = replace(d, x_test=d.x_train[:100])
    shuffled = data.corrupt(twice, "shuffled pixels", generator)
    assert torch.equal(shuffled.x_test, shuffled.x_train[:100])
    own = data.corrupt(twice, "random pixels", generator)
    assert not torch.equal(own.x_test, own.x_train[:100])
    with pytest.raises(DataError, match="'noise'.*gaussian"):
        data.corrupt(d, "noise", generator)


def test_a_dataset_prints_itself_in_a_line():
    assert str(data.load("digits", 20, 10)) == (
        "digits: 20 training and 10 test samples of 1 x 8 x 8, 10 classes, preprocess: standardize"
    )


# --- the real files, where they are


def real_data(*names):
    """The data folder that holds one of ``names``: LESSONS_DATA, else a data folder beside the checkout."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    for folder in (os.environ.get("LESSONS_DATA"), beside):
        if folder and any((Path(folder) / name).exists() for name in names):
            return Path(folder)
    pytest.skip(f"needs real data: set LESSONS_DATA to a folder that holds {' or '.join(names)}")


def test_real_mnist():
    d = data.load("mnist", root=real_data("MNIST"), preprocess="none")
    assert (d.name, d.shape) == ("MNIST", (1, 28, 28))
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert d.y_train.bincount().tolist() == counts
    assert d.y_test.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert d.x_train.mean().item() == pytest.approx(0.1307, abs=1e-4)  # the constants everyone uses
    assert d.x_train.std().item() == pytest.approx(0.3081, abs=1e-4)


@pytest.fixture(scope="module")
def real_jpegs(tmp_path_factory):
    """The JPEG copy of CIFAR-10, or 20 + 20 images a class unpacked from its archive."""
    root = real_data("cifar10-jpeg", "cifar10-jpeg.tar.xz")
    if (root / "cifar10-jpeg").is_dir():
        return root / "cifar10-jpeg"
    target, seen = tmp_path_factory.mktemp("jpeg"), {}
    with tarfile.open(root / "cifar10-jpeg.tar.xz", "r|xz") as archive:
        for member in archive:
            folder = os.path.dirname(member.name)
            seen[folder] = seen.get(folder, 0) + member.isfile()
            if member.isfile() and seen[folder] <= 20:
                archive.extract(member, target, filter="data")
    return target / "cifar10-jpeg"


def test_real_jpeg_copy_of_cifar10(real_jpegs):
    d = data.load(real_jpegs, 200, 100, preprocess="none")
    assert (d.name, d.n_classes, d.shape) == ("CIFAR-10 (JPEG copy)", 10, (3, 32, 32))
    assert len(d.y_train.unique()) == 10
    # Natural images: the data set's well-known mean colour, and neighbours alike.
    torch.testing.assert_close(d.x_train.mean((0, 2, 3)), torch.tensor([0.491, 0.482, 0.447]), atol=0.06, rtol=0)
    assert (d.x_train[..., 1:] - d.x_train[..., :-1]).std() < d.x_train.std() / 2
    whitened = data.load(real_jpegs, 200, 100)
    assert (whitened.preprocess, whitened.shape) == ("crop and whiten", (3, 28, 28))
    torch.testing.assert_close(whitened.x_train.mean((1, 2, 3)), torch.zeros(200), atol=1e-5, rtol=0)
    torch.testing.assert_close(whitened.x_train.std((1, 2, 3)), torch.ones(200), atol=1e-3, rtol=0)
    assert torch.equal(whitened.y_train, d.y_train)
