# SPDX-License-Identifier: MIT
"""Debian's Chromium, headless: one for all tests, with a tab for each. A test's tab asserts at its
end that nothing was reported in its console and nothing asked of other hosts.
"""
import json
import os
import re
import shutil
import tempfile

import pytest

from . import procs

FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--mute-audio")


def start(folder):
    """A WebDriver, or a skip."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="python3-selenium: not installed")
    from selenium.webdriver.chrome.service import Service
    programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if None in programs:
        pytest.skip("chromium, chromedriver: not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    for flag in (*FLAGS, f"--user-data-dir={tempfile.mkdtemp(dir=folder)}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    env = {**os.environ, "HOME": folder, "XDG_CONFIG_HOME": folder, "XDG_CACHE_HOME": folder,
           "XDG_RUNTIME_DIR": folder}
    driver = webdriver.Chrome(service=Service(programs[1], env=env), options=options)
    driver.get("chrome://net-internals/#sockets")  # see Tab.close()
    return driver


class Tab:
    def __init__(self, driver):
        self.driver = driver
        self.home = driver.current_window_handle
        driver.switch_to.new_window("tab")
        self.size(1200, 900)
        self.drain("browser"), self.drain("performance")
        self.allowed, self.console, self.hosts = [], [], set()

    def cdp(self, command, **arguments):
        return self.driver.execute_cdp_cmd(command, arguments)

    def drain(self, kind):
        return self.driver.get_log(kind)

    def open(self, url):
        self.driver.get(url)

    def js(self, expression, *arguments):
        return self.driver.execute_script(f"return {expression}", *arguments)

    def text(self, selector="body"):
        """As it is shown; "" when there is no such element."""
        return self.js("document.querySelector(arguments[0])?.innerText ?? ''", selector)

    def wait(self, expression, what=None, timeout=10):
        return procs.wait_until(lambda: self.js(expression), what or f"{expression}\n{self.text()}",
                                timeout)

    def wait_text(self, selector, text, timeout=10):
        procs.wait_until(lambda: self.text(selector) == text,
                         f"{selector} to be {text!r}, not {self.text(selector)!r}", timeout)

    def size(self, width, height, phone=False):
        self.cdp("Emulation.setDeviceMetricsOverride", width=width, height=height,
                 deviceScaleFactor=1, mobile=phone)

    def scheme(self, name):
        self.cdp("Emulation.setEmulatedMedia",
                 features=[{"name": "prefers-color-scheme", "value": name}])

    def no_scripts(self):
        self.cdp("Emulation.setScriptExecutionDisabled", value=True)

    def key(self, *keys):
        from selenium.webdriver.common.action_chains import ActionChains
        ActionChains(self.driver).send_keys(*keys).perform()

    def tree(self):
        """(role, name) of what assistive technology is told, in order."""
        nodes = self.cdp("Accessibility.getFullAXTree")["nodes"]
        return [(n["role"]["value"], n.get("name", {}).get("value", "")) for n in nodes
                if not n["ignored"]]

    def screenshot(self, path):
        self.driver.save_screenshot(path)

    # -- what it must not do

    def allow(self, pattern):
        """Messages that the browser itself puts into the console, of cut answers for example."""
        self.allowed.append(re.compile(pattern))

    def observe(self):
        self.console += [entry["message"] for entry in self.drain("browser")]
        for entry in self.drain("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                self.hosts.add(re.match(r"\w+:(//[^/]*)?", message["params"]["request"]["url"])[0])

    def judge(self, origin):
        self.observe()
        bad = [line for line in self.console if not any(p.search(line) for p in self.allowed)]
        assert not bad, "in the console:\n" + "\n".join(bad)
        assert self.hosts <= {*origin, "data:", "about:"}, self.hosts

    def close(self):
        """With the connections that the browser would keep."""
        self.driver.close()
        self.driver.switch_to.window(self.home)
        self.js("document.querySelector('#sockets-view-flush-button').click()")
