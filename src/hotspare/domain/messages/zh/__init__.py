"""Chinese texts, under the codes and with the fields of the English ones.

The words are those of the product's manual: 灾备机, 规则, 虚机, 目标虚机, 恢复点, 切换, 回切.
Exit codes are the English texts' business.
"""

from typing import Final

from ...rule_states import CHINESE

WORDS: Final[dict[str, dict[str, str]]] = {
    "outcome": {"ok": "成功", "warning": "成功但有警告", "failed": "失败", "stopped": "已停止"},
    "kind": {"replicate": "复制", "failover": "切换", "undo": "撤销切换",
             "permanent": "永久切换", "shut-down": "关闭源虚机", "failback": "回切",
             "switch-back": "切回源端", "commit-failback": "提交回切",
             "undo-failback": "撤销回切", "test": "演练", "scrub": "校验", "remove": "删除",
             "refresh": "刷新", "check": "检查", "rebuild": "重建",
             "watch": "监视源端", "cable": "插拔网线",
             "interval": "每小时", "daily": "每天", "weekly": "每周", "monthly": "每月"},
    "role": {"viewer": "只读用户", "operator": "操作员", "administrator": "管理员"},
    "state": {state.value: word for state, word in CHINESE.items()},
}
"""Values that are words of ours, by the field that holds them."""
WORDS["needed"] = WORDS["role"]
