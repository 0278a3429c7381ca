"""An object store for tests: a program that answers as Google's does.

It prints its port. The emulator that it starts leaves out the generation of
an object that is downloaded, which tensorstore insists on.
"""

import threading

from gcp_storage_emulator import server
from gcp_storage_emulator.handlers import objects

_plain = objects.download


def _download(request, response, storage, *args, **kwargs):
  _plain(request, response, storage, *args, **kwargs)
  if response.status.value < 300:
    found = storage.get_file_obj(
        request.params['bucket_name'], request.params['object_id']
    )
    response['x-goog-generation'] = found['generation']


objects.download = _download


def main() -> None:
  store = server.create_server(
      '127.0.0.1', 0, in_memory=True, default_bucket='bucket'
  )
  store.start()
  print(store._api._httpd.server_address[1], flush=True)
  threading.Event().wait()


if __name__ == '__main__':
  main()
