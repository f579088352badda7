"""Chinese texts, under the codes and with the fields of the English ones.

The words are those of the product's manual: 灾备机, 规则, 虚机, 目标虚机, 恢复点, 切换, 回切.
Exit codes are the English texts' business.
"""

from typing import Final

WORDS: Final[dict[str, dict[str, str]]] = {
    "outcome": {"ok": "成功", "warning": "成功但有警告", "failed": "失败", "stopped": "已停止"},
    "kind": {"replicate": "复制", "failover": "切换", "undo": "撤销切换",
             "permanent": "永久切换", "shut-down": "关闭源虚机", "remove": "删除",
             "refresh": "刷新", "check": "检查", "rebuild": "重建",
             "interval": "每小时", "daily": "每天", "weekly": "每周", "monthly": "每月"},
    "role": {"viewer": "只读用户", "operator": "操作员", "administrator": "管理员"},
    "state": {"started": "启动", "queued": "排队中", "creating-vm": "创建新虚机",
              "reading-configuration": "获取虚机配置", "querying-changes": "查询变化数据",
              "running": "执行中", "stopped": "停止", "invalid": "失效", "finished": "完成",
              "idle": "空闲", "restoring-snapshot": "恢复快照", "clearing-snapshot": "快照清除",
              "temporary-failover": "临时切换", "permanent-failover": "永久切换"},
}
"""Values that are words of ours, by the field that holds them."""
WORDS["needed"] = WORDS["role"]
