"""From images and cameras to views, frames and videos."""
