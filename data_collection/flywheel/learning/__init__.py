"""Everything that talks to DSPy: models, optimizers, evaluation.

DSPy reads these switches when it is first imported: without them it fetches a price list from the network, loads
./.env, and draws bars of its own across ours. Every module of this room runs after this file, so they always stand.
"""

import os

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
os.environ.setdefault("LITELLM_MODE", "PRODUCTION")
os.environ.setdefault("TQDM_DISABLE", "1")
