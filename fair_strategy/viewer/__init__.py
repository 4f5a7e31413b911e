"""The review page: 3D Slicer's core in a browser, for readers who install nothing.

`opengl` says whether this machine can render; `volumes`, `letters`, `scene`, `overlay` and `tools`
are the scene, without a page; `client` talks to the MONAI Label server; `reading` is what a reader
does with a case; `page` shows it; `worker` is one reader's process, `pool` and `broker` keep the
processes of all readers behind one port.
"""
