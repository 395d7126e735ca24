"""Where the cache lies for users of unusual kinds."""

from __future__ import annotations

import pwd

import pytest

from vta_hw.spec import cache


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(user: int) -> pwd.struct_passwd:
        raise KeyError(user)

    for variable in (cache.FOLDER_VARIABLE, "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.raises(cache.CacheError, match=f"not known; set {cache.FOLDER_VARIABLE} to a fold"):
        cache.cache_folder()
