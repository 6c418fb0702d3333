"""What Ansible makes of inventories: reads a path from each line, prints JSON.

It runs with the Python of an ansible-core, and calls what `ansible-inventory --list` calls; as a
process of its own, because Ansible keeps what it read.
"""

import json
import os
import sys

os.environ |= {
    "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "true",
    "ANSIBLE_DEVEL_WARNING": "false",
    "ANSIBLE_DEPRECATION_WARNINGS": "false",
    "ANSIBLE_LOCALHOST_WARNING": "false",
    "ANSIBLE_HOME": os.environ.get("ANSIBLE_HOME", "/tmp/.ansible-of-tests"),
}


def main() -> None:
    from ansible import constants
    from ansible._internal._json._profiles import _inventory_legacy
    from ansible.inventory.manager import InventoryManager
    from ansible.parsing.dataloader import DataLoader
    from ansible.plugins.loader import init_plugin_loader
    from ansible.vars.manager import VariableManager

    init_plugin_loader([])
    for line in sys.stdin:
        try:
            loader = DataLoader()
            inventory = InventoryManager(loader=loader, sources=[line.rstrip("\n")])
            variables = VariableManager(loader=loader, inventory=inventory)
            hosts = {}
            for host in inventory.get_hosts("all"):
                own = variables.get_vars(host=host, include_hostvars=False, stage="all")
                for name in constants.INTERNAL_STATIC_VARS:
                    own.pop(name, None)
                groups = sorted({group.name for group in host.get_groups()} - {"all"})
                hosts[host.name] = {"groups": groups, "variables": own}
            said: dict[str, object] = {"hosts": hosts}
        except Exception as error:
            said = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(said, cls=_inventory_legacy.Encoder), flush=True)


if __name__ == "__main__":
    main()
