"""The parameters of one HTTP request, wherever the client put them."""

import json
from urllib.parse import parse_qsl

from aiohttp import web


async def params_of(request: web.Request) -> dict[str, str]:
    """Return the parameters from query and body (a form, or a JSON object) together, as text."""
    body = await request.text() if request.body_exists else ""
    if body.lstrip().startswith("{"):
        try:
            form = {str(name): str(value) for name, value in json.loads(body).items()}
        except ValueError:  # whoever answers it says what is wrong with it
            form = {}
    else:
        form = dict(parse_qsl(body, keep_blank_values=True))
    return {**request.query, **form}
