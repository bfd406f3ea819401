"""Novel view synthesis with a trained model: single views, camera paths and videos."""
