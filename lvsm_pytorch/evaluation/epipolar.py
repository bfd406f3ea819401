"""Check of cameras against images: if the cameras are right, matched points of two views lie on each other's epipolar lines.

Corrections of common mistakes are tried as well, to name the cause if the cameras are wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lvsm_pytorch.data.formats.undistort import opencv
from lvsm_pytorch.data.problems import Problems
from lvsm_pytorch.data.scene import Scene, cameras_of
from lvsm_pytorch.geometry.cameras import Cameras
from lvsm_pytorch.geometry.view_selection import camera_distance

LARGEST = 640  # pixels; larger photos are downscaled before feature detection
FEWEST_MATCHES = 30

FLIP = torch.diag(torch.tensor([1., -1., -1., 1.], dtype = torch.float64))

# common mistakes, with functions that correct poses and intrinsics

MISTAKES: dict[str, Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    'the y and z axes of the cameras point the other way (OpenGL for OpenCV, or the reverse)': lambda poses, intrinsics: (poses @ FLIP, intrinsics),
    'poses are inverted (world to camera for camera to world)': lambda poses, intrinsics: (torch.linalg.inv(poses), intrinsics),
    'poses are inverted, and the y and z axes of the cameras point the other way': lambda poses, intrinsics: (torch.linalg.inv(poses) @ FLIP, intrinsics),
    'width and height are swapped in the intrinsics': lambda poses, intrinsics: (poses, swapped(intrinsics)),
}


class Matches(NamedTuple):
    """Matched points of two views.

    Attributes:
        first: Number of the first view.
        second: Number of the second view.
        points: Points (n 2) in pixels of the first view.
        others: Matching points (n 2) in pixels of the second view.
    """
    first: int
    second: int
    points: Tensor
    others: Tensor


class Agreement(NamedTuple):
    """Median distances in pixels from matched points to their epipolar lines, in photos of at most LARGEST pixels a side.

    Attributes:
        given: With the given cameras.
        shifted: With the camera of the next view for each view, which is certainly wrong.
        others: With each of MISTAKES.
        num_matches: Number of matches in all pairs.
    """
    given: float
    shifted: float
    others: dict[str, float]
    num_matches: int

    @property
    def verdict(self) -> str:
        if self.num_matches < FEWEST_MATCHES:
            return f'unknown, too few matches ({self.num_matches})'

        best = min(self.others, key = self.others.__getitem__)

        if self.given < 0.5 * self.shifted and self.given <= 1.5 * self.others[best]:
            return 'cameras agree with the images'

        if self.others[best] < 0.5 * min(self.given, self.shifted):
            return f'WRONG: {best}'

        return 'cameras do NOT agree with the images; none of the usual mistakes explains it'


def swapped(intrinsics: Tensor) -> Tensor:
    """Swaps fx with fy, and cx with cy."""
    return intrinsics[..., [1, 0, 2], :][..., [1, 0, 2]]


class Compared(NamedTuple):
    """Result of `compare`.

    Attributes:
        matches: Matches of each pair.
        cameras: Cameras of the photos at the size of the comparison.
        photos: Photos by number of the view, of at most LARGEST pixels a side.
        sizes: (height, width) of these photos in the dataset.
    """
    agreement: Agreement
    matches: list[Matches]
    cameras: Cameras
    photos: dict[int, Tensor]
    sizes: list[tuple[int, int]]


def compare(scene: Scene, *, num_pairs: int = 12, problems: Problems | None = None) -> Compared:
    """Compares the cameras of a scene with its images, by features matched between neighbouring views. Unreadable photos are recorded in `problems`."""
    problems = Problems() if problems is None else problems
    views = scene.views
    poses, intrinsics = cameras_of(views)
    pairs = neighbours(poses, num_pairs)
    photos: dict[int, Tensor] = {}
    sizes = []

    for index in sorted({index for pair in pairs for index in pair}):
        found = problems.attempt(f'{scene.name}/{views[index].name}', partial(views[index].thumbnail, LARGEST))

        if found is not None:
            sizes.append(views[index].size)
            photos[index], intrinsics[index] = found

    matches = [match(photos, *pair) for pair in pairs if set(pair) <= set(photos)]
    given = Cameras(poses, intrinsics)
    following = (torch.arange(len(views)) + 1) % len(views)

    def median(cameras: Cameras) -> float:
        distances = torch.cat([epipolar_distances(each, cameras) for each in matches] or [torch.empty(0)])
        return distances.median().item() if len(distances) > 0 else float('nan')

    others = {name: median(Cameras(*mistake(poses, intrinsics))) for name, mistake in MISTAKES.items()}
    shifted = median(Cameras(poses[following], given.intrinsics))
    return Compared(Agreement(median(given), shifted, others, sum(len(each.points) for each in matches)), matches, given, photos, sizes)


def neighbours(poses: Tensor, num_pairs: int) -> list[tuple[int, int]]:
    """Pairs of views over the whole scene: each a view and its nearest neighbour, by the poses (n 4 4) and by their inverses, in case they are inverted."""
    if len(poses) < 2:
        return []

    distances = [camera_distance(each).fill_diagonal_(torch.inf) for each in (poses, torch.linalg.inv(poses))]
    starts = range(0, len(poses), max(2 * len(poses) // num_pairs, 1))
    pairs = [(start, int(distance[start].argmin())) for start in starts for distance in distances]
    return list(dict.fromkeys((min(pair), max(pair)) for pair in pairs))[:num_pairs]


def match(photos: dict[int, Tensor], first: int, second: int) -> Matches:
    """Matches SIFT features (Lowe 2004) that are mutual nearest neighbours and pass the ratio test."""
    cv2: Any = opencv()
    sift = cv2.SIFT_create(2000)
    found = [sift.detectAndCompute((photos[index].permute(1, 2, 0) * 255).byte().numpy(), None) for index in (first, second)]
    (points, features), (other_points, other_features) = found
    pairs = []

    if features is not None and other_features is not None and min(len(features), len(other_features)) > 1:
        nearest = {each.queryIdx: each.trainIdx for each, next in cv2.BFMatcher().knnMatch(features, other_features, 2) if each.distance < 0.75 * next.distance}
        back = {each.queryIdx: each.trainIdx for each, next in cv2.BFMatcher().knnMatch(other_features, features, 2) if each.distance < 0.75 * next.distance}
        pairs = [(points[a].pt, other_points[b].pt) for a, b in nearest.items() if back.get(b) == a]

    positions = torch.tensor(pairs, dtype = torch.float64).reshape(-1, 2, 2) + 0.5  # pixel centres lie at integers in OpenCV
    return Matches(first, second, positions[:, 0], positions[:, 1])


def fundamental(cameras: Cameras, first: int, second: int) -> Tensor:
    """Fundamental matrix F (3 3) with x'ᵀ F x = 0 for corresponding points (Hartley & Zisserman, "Multiple View Geometry", 9.2)."""
    poses, intrinsics = (t[[first, second]].double() for t in cameras)
    x, y, z = (relative := torch.linalg.inv(poses[1]) @ poses[0])[:3, 3]
    cross = torch.stack((torch.stack((x * 0, -z, y)), torch.stack((z, x * 0, -x)), torch.stack((-y, x, x * 0))))
    inverse = torch.linalg.inv(intrinsics)
    return inverse[1].mT @ cross @ relative[:3, :3] @ inverse[0]


def epipolar_distances(matches: Matches, cameras: Cameras) -> Tensor:
    """Returns the distances (n) in pixels from points to their epipolar lines, averaged over both views; empty if both cameras are in one place."""
    f = fundamental(cameras, matches.first, matches.second)
    points, others = (torch.cat((each, torch.ones_like(each[:, :1])), dim = 1) for each in (matches.points, matches.others))

    if f.abs().max() < 1e-12 or len(points) == 0:
        return torch.empty(0, dtype = torch.float64)

    in_second, in_first = points @ f.mT, others @ f
    off = (others * in_second).sum(dim = -1).abs()
    return (off / in_second[:, :2].norm(dim = -1) + off / in_first[:, :2].norm(dim = -1)) / 2
