"""KITTI's labelled images cut into train 3712 and val 3769, as nearly every paper cuts them.

The cut is Chen et al.'s (3D Object Proposals for Accurate Object Class Detection, NIPS 2015): no drive has frames in
both. It is a list that cannot be computed, here as one bit an image, set where the image is for training.

Source:
    open-mmlab/OpenPCDet@4090c459, data/kitti/ImageSets/train.txt; sha256 of the two lists are in the test.
"""

IMAGES = 7481
_TRAIN = (
    "917ee226aa5e53c89ff1bf99dd47f1d574a6ee36be18f8c442a6e35e58c2dc07f4913ca78bb9a24e2632728c4219930896008638e5e1f3"
    "6d40aef32039a04e516ab65b7896cc3427faf0ef37c0c715c6d25e87e9dac7e54557f19a2d339457b821cdfd6d00876edef92615ecfb80"
    "b3b9af6a634d47c47335a4896a16fedc40c98feacdc8de80e1e53c2946856aa042210dcef304e20cecf919154281a0a2800fb4a47e07d9"
    "ff812d0d26ebf43142e9fec66b6e68894fdadaf93a3eb9e693907a1d8b6b52b92c805349da2baa8f6add550def47b9a908189cb3f1986d"
    "d36550cfcb16799436ef756048e3693053973bfe6021309f5e7cb7841ae21741a9a3c1c1151df68498a9f0e62d264e05fe3c291baca7b7"
    "1cbe47331ee94c95df7244c0c645ce7a951307b2d897540e38f3ecc4331e5ddc90ff90ed56a41af63905c2d771c314b21ddc05f2eb94a5"
    "31eb3adb8b39d06dc82b101eb5032922f2fecb933184d7c4b6307b5acfe02b8070b6d2f35cbd26a805ed0d368a20cfed280dcc50598e97"
    "5e5d68c955f4a83915b69ad4a0ed5ac6cd2912365ec4af9b672f76511524c3cf9acc29f05aef9f828007a9914fee1b7b08dd06063c5eea"
    "360eee6d18cf69f477ff322d50680feab2c9e2f0c707fca664ed7e0fc4a7c7ae89e79d5225f5c5cbbef567591c29c589abc765e59e95f5"
    "9396b15f75060f7bc7151b2eea375a8aa65320b0110714f1010760ffa0e7d898f0577a8d0c66fce91308c28a5ca49e14b13f4619be3631"
    "84fcc0198866d555b94f088979f6b23c05f1e2b3dc1959a2f4ef06d55915760697833e482087908111d4841736c51b3ce47a74c839b86e"
    "ed07c0668fba625c2bd93424d843944dfd6a91849758ab57513b901c25081dd8fab13f127a422ba184546130d8bdf989c99315ae75e686"
    "56b70f62248b1818a9fe69268b98fff3fafcc8dba213c38e1294bcdfbccfeb65551e6079c33141e70fdb0ebc8c4f934573336abec6431b"
    "f22e620edb4bffbc0d9728e7c1cbde2ff42f7bb48ab1e2881088eacf636d8b96d917d28b117e4094805590c4c9e87a14cdc188db6f5657"
    "aa3b3d8dc5d75aede33d749fde89055c7fb19f4397e1c432837507a39687e88e360f8211e1fd3109856b1e87423380b5f2a52b1d18d523"
    "c7e1de1311ae8e4749d0d9f05af80e69a19b2e041243909a5164624df333a69054d51692ae82c59bdb5f1c3586576b91e95a69446cc019"
    "ce326aa254022ed6f96a5bc24f1bd9813514efdc1254aba92d54f2518e086605e478ecc88f2c283e77ac303ae18a82605d825a1b5c41a9"
    "00"
)


def chen_split() -> dict[str, tuple[str, ...]]:
    """Six-digit image ids, in order, of "train" (3712) and "val" (3769)."""
    bits = f"{int(_TRAIN, 16):0{4 * len(_TRAIN)}b}"[:IMAGES]
    ids = [f"{number:06}" for number in range(IMAGES)]
    return {
        split: tuple(name for name, bit in zip(ids, bits, strict=True) if bit == mark)
        for split, mark in (("train", "1"), ("val", "0"))
    }
