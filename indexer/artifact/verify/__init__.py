"""Whether a version is what it says it is.

`structure` proves offline that what is kept of it is whole, with what a scan listed (`tiling`);
`references` looks whether the objects it references can still be fetched.
"""
