"""Other tools at the same work, each as one of its users would write it: BUCKET in, count out."""
